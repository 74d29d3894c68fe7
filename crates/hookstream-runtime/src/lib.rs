//! What every service needs: signals, drain, clock, logs, /metrics /livez /readyz
