//! What is used of libucp's C interface, of its versions from 1.12 on.
//!
//! Source: `ucp/api/ucp.h` and `ucs/type/status.h` of UCX. Parameter structs are read as far as
//! their `field_mask` says, and later versions append to them: each has room behind what is used
//! here. `ucp_init`, `UCS_PTR_STATUS` and their like are inline in C and written out here.

use core::ffi::{c_char, c_int, c_uint, c_void};
use libloading::os::unix::Library;

/// `ucs_status_t`: a packed enum of one signed byte. 0 is done, 1 is under way, less is an error.
pub type Status = i8;
/// `ucs_status_ptr_t`: NULL when it is done, a status when it failed, or a request.
pub type StatusPointer = *mut c_void;

pub const OK: Status = 0;
pub const IN_PROGRESS: Status = 1;
/// Pointers from here on up are no pointers but statuses.
const STATUS_LAST: isize = -100;

macro_rules! handles {
    ($($name:ident)*) => {$(
        #[doc = concat!(stringify!($name), ": a pointer that only UCX follows.")]
        pub type $name = *mut c_void;
    )*};
}

handles!(Config ContextHandle WorkerHandle Address Endpoint MemoryHandle);

/// Room for what later versions append.
type Room = [u64; 32];

pub const PARAM_FEATURES: u64 = 1;
pub const PARAM_WORKERS_SHARED: u64 = 0x20;
pub const FEATURE_MESSAGES: u64 = 0x40;

/// `ucp_params_t`.
#[repr(C)]
#[derive(Default)]
pub struct ContextParams {
    pub field_mask: u64,
    pub features: u64,
    /// Size and callbacks of requests, a tag mask.
    pub unused: [u64; 4],
    pub workers_shared: c_int,
    pub room: Room,
}

pub const WORKER_PARAM_THREAD_MODE: u64 = 1;
/// Any thread, one at a time.
pub const THREAD_MODE_SERIALIZED: c_int = 1;

/// `ucp_worker_params_t`.
#[repr(C)]
#[derive(Default)]
pub struct WorkerParams {
    pub field_mask: u64,
    pub thread_mode: c_int,
    pub room: Room,
}

pub const ENDPOINT_PARAM_ADDRESS: u64 = 1;
pub const ENDPOINT_PARAM_ERROR_MODE: u64 = 2;
pub const ENDPOINT_PARAM_ERROR_HANDLER: u64 = 4;
pub const ERROR_MODE_NONE: c_int = 0;
pub const ERROR_MODE_PEER: c_int = 1;
/// No lanes lead there, or none of the kind that is wanted.
pub const UNREACHABLE: Status = -6;

/// `ucp_err_handler_cb_t`: argument, endpoint, and what went wrong.
pub type ErrorHandler = unsafe extern "C" fn(*mut c_void, Endpoint, Status);

/// `ucp_ep_params_t`.
#[repr(C)]
pub struct EndpointParams {
    pub field_mask: u64,
    pub address: *const c_void,
    pub error_mode: c_int,
    pub error_handler: ErrorHandler,
    pub error_argument: *mut c_void,
    pub room: Room,
}

pub const MAP_PARAM_LENGTH: u64 = 2;
pub const MAP_PARAM_FLAGS: u64 = 4;
pub const MAP_ALLOCATE: c_uint = 2;

/// `ucp_mem_map_params_t`.
#[repr(C)]
pub struct MapParams {
    pub field_mask: u64,
    pub address: *mut c_void,
    pub length: usize,
    pub flags: c_uint,
    pub room: Room,
}

pub const MEMORY_ADDRESS: u64 = 1;
pub const MEMORY_LENGTH: u64 = 2;

/// `ucp_mem_attr_t`.
#[repr(C)]
pub struct MemoryAttributes {
    pub field_mask: u64,
    pub address: *mut c_void,
    pub length: usize,
    pub room: Room,
}

pub const REQUEST_FLAGS: u32 = 0x10;
/// Whole at once, without asking the receiver first.
pub const MESSAGE_EAGER: u32 = 2;
/// At once, whatever is under way.
pub const CLOSE_FORCE: u32 = 1;

/// `ucp_request_param_t`: flags, and no callback.
#[repr(C)]
#[derive(Default)]
pub struct RequestParams {
    pub mask: u32,
    pub flags: u32,
    pub room: Room,
}

/// `ucp_am_recv_param_t`.
#[repr(C)]
pub struct MessageParams {
    pub flags: u64,
    /// More, which is not used.
    pub reply_endpoint: Endpoint,
}

/// Set where the data of a message did not come with it.
pub const MESSAGE_RENDEZVOUS: u64 = 1 << 17;

/// `ucp_am_recv_callback_t`: argument, header and its bytes, data and its bytes.
pub type Handler = unsafe extern "C" fn(
    *mut c_void,
    *const c_void,
    usize,
    *mut c_void,
    usize,
    *const MessageParams,
) -> Status;

/// Id, function and argument.
pub const HANDLER_FIELDS: u64 = 1 | 4 | 8;

/// `ucp_am_handler_param_t`.
#[repr(C)]
pub struct HandlerParams {
    pub field_mask: u64,
    pub id: c_uint,
    pub flags: u32,
    pub handler: Handler,
    pub argument: *mut c_void,
    pub room: Room,
}

const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(ContextParams, workers_shared) == 48 && size_of::<ContextParams>() >= 80);
    assert!(offset_of!(WorkerParams, thread_mode) == 8 && size_of::<WorkerParams>() >= 200);
    assert!(offset_of!(EndpointParams, error_mode) == 16);
    assert!(offset_of!(EndpointParams, error_argument) == 32);
    assert!(size_of::<EndpointParams>() >= 104);
    assert!(offset_of!(MapParams, flags) == 24 && size_of::<MapParams>() >= 40);
    assert!(offset_of!(MemoryAttributes, length) == 16 && size_of::<MemoryAttributes>() >= 32);
    assert!(offset_of!(RequestParams, flags) == 4 && size_of::<RequestParams>() >= 72);
    assert!(offset_of!(HandlerParams, argument) == 24);
};

/// `ucp_get_version`, which every version has.
pub type GetVersion = unsafe extern "C" fn(*mut c_uint, *mut c_uint, *mut c_uint);

macro_rules! functions {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions of libucp, and `ucs_status_string` of what it is linked with.
        pub struct Functions {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// Looks them all up; the error is the name of one that is missing.
            ///
            /// # Safety
            /// The library must be UCX's, and never be closed.
            pub unsafe fn load(library: &Library) -> Result<Self, &'static str> {
                Ok(Self {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        // SAFETY: the caller's promise; the types are those of UCX's header.
                        let found = unsafe { library.get(name.as_bytes()) };
                        *found.map_err(|_| stringify!($name))?
                    },)*
                })
            }
        }
    };
}

functions! {
    ucp_config_read: fn(*const c_char, *const c_char, *mut Config) -> Status;
    ucp_config_modify: fn(Config, *const c_char, *const c_char) -> Status;
    ucp_config_release: fn(Config);
    ucp_init_version: fn(
        c_uint, c_uint, *const ContextParams, Config, *mut ContextHandle
    ) -> Status;
    ucp_worker_create: fn(ContextHandle, *const WorkerParams, *mut WorkerHandle) -> Status;
    ucp_worker_destroy: fn(WorkerHandle);
    ucp_worker_get_address: fn(WorkerHandle, *mut Address, *mut usize) -> Status;
    ucp_worker_release_address: fn(WorkerHandle, Address);
    ucp_worker_progress: fn(WorkerHandle) -> c_uint;
    ucp_worker_set_am_recv_handler: fn(WorkerHandle, *const HandlerParams) -> Status;
    ucp_ep_create: fn(WorkerHandle, *const EndpointParams, *mut Endpoint) -> Status;
    ucp_ep_close_nbx: fn(Endpoint, *const RequestParams) -> StatusPointer;
    ucp_ep_print_info: fn(Endpoint, *mut libc::FILE);
    ucp_mem_map: fn(ContextHandle, *const MapParams, *mut MemoryHandle) -> Status;
    ucp_mem_unmap: fn(ContextHandle, MemoryHandle) -> Status;
    ucp_mem_query: fn(MemoryHandle, *mut MemoryAttributes) -> Status;
    ucp_am_send_nbx: fn(
        Endpoint, c_uint, *const c_void, usize, *const c_void, usize, *const RequestParams
    ) -> StatusPointer;
    ucp_request_check_status: fn(*mut c_void) -> Status;
    ucp_request_free: fn(*mut c_void);
    ucs_status_string: fn(Status) -> *const c_char;
}

/// What a call that may take its time came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is done.
    Done,
    /// It goes on; the request is to be freed.
    Request(*mut c_void),
    /// It failed.
    Failed(Status),
}

impl Begun {
    /// `UCS_PTR_IS_PTR` and its like.
    pub fn of(pointer: StatusPointer) -> Self {
        match pointer.addr() as isize {
            0 => Self::Done,
            status @ STATUS_LAST..0 => Self::Failed(status as Status),
            _ => Self::Request(pointer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_a_status_exactly_in_the_last_hundred_bytes() {
        let at = |address: isize| core::ptr::without_provenance_mut::<c_void>(address as usize);
        assert_eq!(Begun::of(at(0)), Begun::Done);
        assert_eq!(Begun::of(at(-1)), Begun::Failed(-1));
        assert_eq!(Begun::of(at(-100)), Begun::Failed(-100));
        assert_eq!(Begun::of(at(-101)), Begun::Request(at(-101)));
        assert_eq!(Begun::of(at(4096)), Begun::Request(at(4096)));
    }
}
