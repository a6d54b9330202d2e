//! Requests that the host makes for a plugin, and what comes back.

use crate::read::{Fields, Malformed, Message};
use crate::write::Writer;
use alloc::vec::Vec;
use core::mem::offset_of;
use zepto_abi::plugin::{self as abi, HTTP_STREAM, MSG_BYTES, MSG_HTTP_REQ};

/// Headers that a reader takes from one message.
const HEADERS_READ_MAX: u32 = 256;

/// A request. Nothing of it is checked but that it is text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request<'a> {
    /// GET and so on.
    pub method: &'a str,
    /// Absolute, without user info.
    pub url: &'a str,
    /// Names and values; in a value the host fills in `${secret:NAME}`.
    pub headers: Vec<(&'a str, &'a str)>,
    /// What is sent along.
    pub body: &'a [u8],
    /// Time for the whole; 0 is the host's default.
    pub timeout_ms: u32,
    /// Bytes of the largest body of the answer; 0 is the host's default.
    pub max_body: u32,
    /// Whether the answer comes in parts, as it arrives.
    pub is_stream: bool,
}

impl<'a> Request<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is no such message.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fields = Message::expect(bytes, MSG_HTTP_REQ)?;
        let flags = fields.u32(offset_of!(abi::HttpRequest, flags));
        if flags & !HTTP_STREAM != 0 {
            return Err(Malformed::Flags(flags));
        }
        Ok(Self {
            method: fields.text(offset_of!(abi::HttpRequest, method))?,
            url: fields.text(offset_of!(abi::HttpRequest, url))?,
            headers: headers(&fields, offset_of!(abi::HttpRequest, headers))?,
            body: fields.bytes(offset_of!(abi::HttpRequest, body))?,
            timeout_ms: fields.u32(offset_of!(abi::HttpRequest, timeout_ms)),
            max_body: fields.u32(offset_of!(abi::HttpRequest, max_body)),
            is_stream: flags & HTTP_STREAM != 0,
        })
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new(MSG_HTTP_REQ, size_of::<abi::HttpRequest>());
        writer.bytes(offset_of!(abi::HttpRequest, method), self.method.as_bytes());
        writer.bytes(offset_of!(abi::HttpRequest, url), self.url.as_bytes());
        write_headers(&mut writer, offset_of!(abi::HttpRequest, headers), &self.headers);
        writer.bytes(offset_of!(abi::HttpRequest, body), self.body);
        writer.u32(offset_of!(abi::HttpRequest, timeout_ms), self.timeout_ms);
        writer.u32(offset_of!(abi::HttpRequest, max_body), self.max_body);
        let flags = if self.is_stream { HTTP_STREAM } else { 0 };
        writer.u32(offset_of!(abi::HttpRequest, flags), flags);
        writer.finish()
    }
}

/// An answer, or a part of one: the body of `EV_HTTP`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// HTTP status code; 0 when there was no answer.
    pub code: u32,
    /// `HTTP_FIRST`, `HTTP_LAST`, `HTTP_TRUNCATED`.
    pub flags: u32,
    /// Names, in lower case, and values; in the first part.
    pub headers: Vec<(&'a str, &'a str)>,
    /// The body, or a part of it.
    pub body: &'a [u8],
}

impl<'a> Response<'a> {
    /// Reads an answer.
    ///
    /// # Errors
    /// When it is no such message.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fields = Message::expect(bytes, MSG_BYTES)?;
        Ok(Self {
            code: fields.u32(offset_of!(abi::HttpResponse, code)),
            flags: fields.u32(offset_of!(abi::HttpResponse, flags)),
            headers: headers(&fields, offset_of!(abi::HttpResponse, headers))?,
            body: fields.bytes(offset_of!(abi::HttpResponse, body))?,
        })
    }

    /// Writes it.
    pub fn write(&self) -> Vec<u8> {
        let mut writer = Writer::new(MSG_BYTES, size_of::<abi::HttpResponse>());
        writer.u32(offset_of!(abi::HttpResponse, code), self.code);
        writer.u32(offset_of!(abi::HttpResponse, flags), self.flags);
        write_headers(&mut writer, offset_of!(abi::HttpResponse, headers), &self.headers);
        writer.bytes(offset_of!(abi::HttpResponse, body), self.body);
        writer.finish()
    }

    /// Whether nothing follows.
    pub fn is_last(&self) -> bool {
        self.flags & abi::HTTP_LAST != 0
    }
}

fn headers<'a>(fields: &Fields<'a>, at: usize) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
    let list = fields.list(at, HEADERS_READ_MAX)?;
    let pair = |fields: Fields<'a>| {
        let key = fields.text(offset_of!(abi::KeyValue, key))?;
        Ok((key, fields.text(offset_of!(abi::KeyValue, val))?))
    };
    list.iter().map(pair).collect()
}

fn write_headers(writer: &mut Writer, at: usize, headers: &[(&str, &str)]) {
    let stride = size_of::<abi::KeyValue>();
    let first = writer.list(at, headers.len(), stride);
    for (i, (key, value)) in headers.iter().enumerate() {
        let at = first + i * stride;
        writer.bytes(at + offset_of!(abi::KeyValue, key), key.as_bytes());
        writer.bytes(at + offset_of!(abi::KeyValue, val), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_read_as_they_were_written() {
        let request = Request {
            method: "GET",
            url: "https://10.96.0.1:443/api",
            headers: alloc::vec![("authorization", "Bearer ${secret:token}"), ("accept", "*/*")],
            body: b"body",
            timeout_ms: 1,
            max_body: 2,
            is_stream: true,
        };
        assert_eq!(Request::read(&request.write()), Ok(request));
        let response = Response {
            code: 410,
            flags: abi::HTTP_FIRST | abi::HTTP_LAST,
            headers: alloc::vec![("content-type", "application/json")],
            body: b"{}",
        };
        assert!(response.is_last());
        assert_eq!(Response::read(&response.write()), Ok(response));
    }

    #[test]
    fn flags_of_the_future_are_refused() {
        let mut bytes = Request { method: "GET", ..Request::default() }.write();
        bytes[offset_of!(abi::HttpRequest, flags)] = 3;
        assert_eq!(Request::read(&bytes), Err(Malformed::Flags(3)));
    }
}
