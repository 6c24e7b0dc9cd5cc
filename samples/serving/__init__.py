"""A sentence encoder served at fixed shapes, with a dispatcher that pads and picks."""
