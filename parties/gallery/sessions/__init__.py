"""Sessions about galleries: private ones and server's lists, the client's sides and the server's."""
