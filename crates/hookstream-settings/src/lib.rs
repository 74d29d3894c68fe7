//! Settings: commented defaults, a file, the environment; every problem at once
