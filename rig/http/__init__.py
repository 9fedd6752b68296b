"""The manners of an HTTP server: problems, access, the API's document."""
