use std::time::Instant;
#[path="filter_eval.rs"] #[allow(dead_code)] mod f;
fn main(){ f::prof(); }
