//! The same component on the real Docker Engine: what it leaves, what errors of the engine tell it, and what arguments
//! become.
