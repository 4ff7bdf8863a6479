"""What is thrown at the server: strategies for messages on the socket and for requests to the pages."""
