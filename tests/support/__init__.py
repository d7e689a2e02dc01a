"""Helpers of the tests: a real server as a process, REST calls, MQTT devices."""
