"""Operating system services: locks, wake-up, processes, files that survive a crash."""
