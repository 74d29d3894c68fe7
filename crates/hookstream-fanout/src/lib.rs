//! Matches events and makes one job per webhook
