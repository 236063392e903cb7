//! Pangea.
