"""Planning with a trained model: tasks, episodes in the true environment, solvers, numbers and pictures."""
