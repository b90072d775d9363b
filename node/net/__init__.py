"""The network rooms: the only home of libp2p, behind one port."""
