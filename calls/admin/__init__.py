"""What people edit, in Django's admin."""

from . import profiles as profiles  # importing it is what registers it
