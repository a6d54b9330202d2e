//! Names, offsets and sizes of the structs, as data: tests compare them with the header.

/// One struct of the header.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Its name in C.
    pub name: &'static str,
    /// Its size in bytes.
    pub size: usize,
    /// Its fields, in order.
    pub fields: &'static [Field],
}

/// One field of a struct.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name, the same in C.
    pub name: &'static str,
    /// Its offset in bytes.
    pub offset: usize,
    /// Its size in bytes.
    pub size: usize,
}

macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident = $c_name:literal {
        $($(#[$fdoc:meta])* $field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            #[repr(C)]
            pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }
        )*

        /// Every struct of the header whose layout is part of the interface.
        pub const LAYOUTS: &[$crate::plugin::Layout] = &[$(
            $crate::plugin::Layout {
                name: $c_name,
                size: size_of::<$name>(),
                fields: &[$(
                    $crate::plugin::Field {
                        name: stringify!($field),
                        offset: core::mem::offset_of!($name, $field),
                        size: size_of::<$type>(),
                    },
                )*],
            },
        )*];
    };
}
pub(super) use structs;
