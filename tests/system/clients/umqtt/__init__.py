"""MicroPython's MQTT package, as far as the example in docs/things.md uses it."""
