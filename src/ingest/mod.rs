//! Where events come from besides `POST /api/v3/events`.

pub mod demo;
pub mod feed;
pub mod nats;
pub mod upstream;
