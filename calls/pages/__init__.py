"""What people read in the browser: calls, and the server's health."""
