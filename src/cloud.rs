//! The DigitalOcean API, as far as a cluster needs it: a client and the objects that it speaks of.
