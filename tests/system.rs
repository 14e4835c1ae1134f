//! The whole product from outside: real processes, real sockets, real clients.

mod article;
mod budget;
mod carry;
mod cluster;
mod collector;
mod command;
mod durability;
mod example;
mod harness;
mod head;
mod identity;
mod limit;
mod operation;
mod price;
mod quota;
mod records;
mod redis;
mod repeat;
mod response;
mod sdk;
mod secret;
mod suspension;
mod tidy;
mod trust;
mod tunnel;
mod verify;
