"""How a new version takes over: the state machine and the traffic it asks for."""
