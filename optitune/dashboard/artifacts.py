"""Files that optuna-dashboard shows beside a study or a trial: in the folder `artifacts` of the study."""

import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import optuna
from optuna.artifacts import upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound

from optitune.common.files import replacing
from optitune.errors import OptituneError
from optitune.storage.artifacts import FOLDER, ID

PREFIX = "artifacts:"
"""Of the system attributes by which Optuna knows artifacts."""

SHOWN = (".png", ".csv")
"""What optuna-dashboard shows itself; a browser shows text."""


class Artifacts:
    """An artifact store of Optuna's that never leaves a half-written file, nor the folders that it is given.

    Args:
        folder: where new ones are written.
        others: where one may lie, too.
    """

    def __init__(self, folder: Path, others: tuple[Path, ...] = ()) -> None:
        self._folder = folder
        self._others = others

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """An artifact's bytes.

        Raises:
            ArtifactNotFound: there is none of that name here.
        """
        if ID.fullmatch(artifact_id):
            for folder in (self._folder, *self._others):
                try:
                    return (folder / artifact_id).open("rb")
                except OSError:
                    continue
        raise ArtifactNotFound(f"no artifact {artifact_id} in {self._folder}")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact, all of it or nothing.

        Raises:
            OptituneError: the file cannot be written, or the name is none.
        """
        if not ID.fullmatch(artifact_id):
            raise OptituneError(f"cannot write the artifact '{artifact_id}': use letters a to f and digits")
        # not worth waiting for the disk: what a crash of the machine spoils is drawn anew from the study
        with replacing(self._folder / artifact_id, durable=False) as scratch:
            scratch.write_bytes(content_body.read())

    def holds(self, artifact_id: str, data: bytes) -> bool:
        """Whether an artifact is there and is just that."""
        with suppress(ArtifactNotFound), self.open_reader(artifact_id) as file:
            return file.read() == data
        return False

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact; one that is not there is gone already."""
        if ID.fullmatch(artifact_id):
            for folder in (self._folder, *self._others):
                (folder / artifact_id).unlink(missing_ok=True)


def put(to: optuna.Trial | optuna.Study, name: str, data: bytes, folder: Path) -> str:
    """Let a study or trial have a file of that name, in place of the one that it may have; its artifact's id.

    Args:
        to: a trial must not have ended.
        folder: of the study.

    Raises:
        OptituneError: the file cannot be written.
    """
    store, there = Artifacts(folder / FOLDER), attached(system_attrs(to))
    if name in there:
        if not store.holds(there[name], data):
            store.write(there[name], BytesIO(data))
        return there[name]
    with tempfile.TemporaryDirectory() as scratch_folder:
        path = Path(scratch_folder) / name
        path.write_bytes(data)
        kind = None if path.suffix in SHOWN else "text/plain"
        return str(upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=to, mimetype=kind))


def system_attrs(of: optuna.Trial | optuna.Study) -> dict[str, Any]:
    """What Optuna and its dashboard keep with a study or a trial."""
    if isinstance(of, optuna.Study):
        return dict(of._storage.get_study_system_attrs(of._study_id))
    return dict(of.storage.get_trial_system_attrs(of._trial_id))


def attached(attrs: Mapping[str, Any]) -> dict[str, str]:
    """The artifacts in system attributes: id by name of the file."""
    known = {key.removeprefix(PREFIX): json.loads(value) for key, value in attrs.items() if key.startswith(PREFIX)}
    # one that was removed in the dashboard is null
    return {about["filename"]: artifact_id for artifact_id, about in known.items() if about}
