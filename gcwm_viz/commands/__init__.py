"""The commands of ``python -m gcwm_viz``, one file each; every file has ``add(commands)``."""
