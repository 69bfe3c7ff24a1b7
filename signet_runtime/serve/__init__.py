"""`signet-serve`: the models of this machine over HTTP and WebSockets, and a page to use them by."""
