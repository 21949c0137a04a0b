"""`parley up`: everything on one machine, each part in a process of its own, supervised."""
