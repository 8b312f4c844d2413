"""Remote calls: sessions of `wire` on sockets, one class for the calling side and one for the called."""
