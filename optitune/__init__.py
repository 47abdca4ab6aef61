"""Which optimizer should I train this model with, with which settings, and how sure are we?"""
