"""The format of telephone voice, resampling, and the beat that sending and reading are timed by."""
