"""What people edit, in Django's admin."""

from . import accounts as accounts  # importing them is what registers them
from . import pbx as pbx
from . import profiles as profiles
from . import rules as rules
