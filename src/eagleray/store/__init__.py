"""Where the controller keeps what must survive it: rows in transactions, and blobs by digest."""
