"""Speech-to-text, language model and text-to-speech: which exist, what each takes, and how each is made."""
