"""Local servers that speak the cloud providers' wire protocols, and go wrong on request."""
