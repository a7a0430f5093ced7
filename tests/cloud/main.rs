//! The API client against the simulator, in one process: no root, no network, milliseconds for minutes.

mod addresses;
mod bench;
mod buckets;
mod client;
mod destroy;
mod droplets;
mod interrupted;
mod pgbackrest;
mod preflight;
mod simulator;
mod spaces;
