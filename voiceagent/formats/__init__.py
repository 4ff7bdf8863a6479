"""How dates and times are written, on the product's pages and in Django's admin alike."""
