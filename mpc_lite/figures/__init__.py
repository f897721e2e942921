"""Every figure is a function that takes data and returns the figure; none touches pyplot: no state is left."""
