"""What the memory backends share: one store of jobs and results within this process."""
