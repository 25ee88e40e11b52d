//! What the compiler says about uses of the attribute: tests alone.
