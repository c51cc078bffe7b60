"""Engine.IO and Socket.IO on the wire: the core without a network; real servers with raw and JavaScript clients."""
