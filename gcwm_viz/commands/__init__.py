"""The commands of ``gcwm-viz``, one file each; every file has ``add(commands)``."""
