"""The registry of tasks: which function a task name stands for."""
