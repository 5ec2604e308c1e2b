"""Running jobs: the runner's steps, the lanes, settlement, heartbeat and reaper."""
