"""What the operating system gives: locks, wake-up, processes, files that survive a crash."""
