"""The stack that `make run` starts on one machine. It is a development dependency: functions/ never imports it."""
