"""Engine.IO and Socket.IO: the core without a network, and real servers with raw and JavaScript clients."""
