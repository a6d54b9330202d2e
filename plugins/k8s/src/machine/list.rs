//! Lists, page by page.

use super::{Action, Machine, Next, Part, State, Timer, first_kind};
use crate::api::{Object, text};
use crate::config::Source;
use crate::objects::{Found, clip};
use crate::page::{self, Head};
use crate::set::TooMany;
use crate::url::{self, Kind};
use zepto_sdk::Level;

/// Objects on a page, unless pages are too long.
pub(super) const OBJECTS_MAX: u32 = 500;
/// Objects on the shortest page. A slice has a thousand endpoints at most, and they fit.
const OBJECTS_MIN: u32 = 1;
/// Pages of one list: a server that never ends is none.
const PAGES_MAX: u32 = 1_000;

/// A list that is not complete.
#[derive(Debug, Default)]
pub struct Listing {
    /// The version of the first page, which is that of the whole.
    version: String,
    pages: u32,
}

/// What is wrong with an object or a page.
pub enum Wrong {
    /// It is not what the API has.
    Malformed(String),
    /// There is no room for it.
    TooMany(String),
}

impl From<TooMany> for Wrong {
    fn from(TooMany(text): TooMany) -> Self {
        Self::TooMany(text)
    }
}

impl Machine {
    /// Asks for everything anew. What was known is forgotten: there is no room for both.
    pub(super) fn list(&mut self) {
        self.kind = first_kind(&self.config);
        self.list_again();
    }

    fn list_again(&mut self) {
        self.set.clear();
        self.state = State::Listing(Listing::default());
        self.get(url::list(&self.config, self.kind, self.limit, ""), false);
    }

    /// A page came.
    pub(super) fn on_page(&mut self, part: &Part<'_>) {
        if let Some(text) = part.failed {
            let text = format!("no list of {}: {text}", self.kind.resource().0);
            return self.pause(Next::List, Level::Warn, text);
        }
        let is_auto = self.config.source == Source::Auto;
        match part.code {
            200 if part.is_truncated => self.shorten(),
            200 => match self.take_page(part.body) {
                Ok(more) if more.is_empty() => self.complete(),
                Ok(more) => self.get(url::list(&self.config, self.kind, self.limit, &more), false),
                Err(wrong) => self.pause_for(wrong),
            },
            404 if is_auto && self.kind == Kind::EndpointSlice => {
                self.log(Level::Info, "no EndpointSlices here; asking for Endpoints".into());
                self.kind = Kind::Endpoints;
                self.list_again();
            }
            410 => self.gone("the list took too long"),
            _ => self.refused(Next::List, part),
        }
    }

    /// A page was too long: shorter ones, from the beginning.
    fn shorten(&mut self) {
        if self.limit <= OBJECTS_MIN {
            let text = "a page of one object is too long".to_owned();
            return self.pause(Next::List, Level::Error, text);
        }
        self.limit = (self.limit / 2).max(OBJECTS_MIN);
        self.list_again();
    }

    /// Takes what is on a page; says where the next one begins, if there is one.
    fn take_page(&mut self, body: &[u8]) -> Result<String, Wrong> {
        let mut wrong = None;
        let head = page::read(body, &mut |object| match self.take_object(object) {
            Ok(_) => Ok(()),
            Err(why) => {
                wrong = Some(why);
                Err(String::new())
            }
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let Head { kind, version, more } = head.map_err(Wrong::Malformed)?;
        if kind != self.kind.list() {
            let text = format!("{:?} is no {}", clip(&kind), self.kind.list());
            return Err(Wrong::Malformed(text));
        }
        if version.is_empty() {
            return Err(Wrong::Malformed("a list without a resourceVersion".into()));
        }
        let State::Listing(listing) = &mut self.state else { return Ok(String::new()) };
        listing.pages += 1;
        if listing.pages > PAGES_MAX {
            return Err(Wrong::TooMany(format!("more than {PAGES_MAX} pages")));
        }
        if listing.version.is_empty() {
            listing.version = version;
        }
        Ok(more)
    }

    /// Takes what an object tells of; says whether that is new.
    pub(super) fn take_object(&mut self, object: &Object<'_>) -> Result<bool, Wrong> {
        let name = text(&object.metadata.name);
        if name.is_empty() {
            return Err(Wrong::Malformed("an object without a name".into()));
        }
        let found = Found::of(&self.config, self.kind, object);
        if let Some((count, why)) = found.left_out {
            let pods = if count == 1 { "pod" } else { "pods" };
            self.log(Level::Warn, format!("{name}: {count} {pods} left out: {why}"));
        }
        Ok(self.set.replace(name, found.members)?)
    }

    /// All pages are there.
    fn complete(&mut self) {
        let State::Listing(listing) = &mut self.state else { return };
        self.version = core::mem::take(&mut listing.version);
        self.state = State::Waiting(Next::Tell);
        self.actions.push(Action::Set(Timer::Pause, 0));
    }

    /// A complete list is told, whether it is new or not, and watched from here on.
    pub(super) fn tell_list(&mut self) {
        match self.set.fingerprint() {
            Ok((fingerprint, count)) => {
                self.told = Some(fingerprint);
                self.actions.push(Action::Emit);
                let level = if self.is_well { Level::Debug } else { Level::Info };
                let (namespace, service) = (&self.config.namespace, &self.config.service);
                let text = format!("{count} nodes behind {namespace}/{service}");
                self.is_well = true;
                self.log(level, text);
                let ms = self.backoff.spread_ms(u64::from(self.config.resync_s) * 1_000);
                self.actions.push(Action::Set(Timer::Resync, ms));
                self.watch();
            }
            Err(too_many) => self.pause_for(too_many.into()),
        }
    }

    pub(super) fn pause_for(&mut self, wrong: Wrong) {
        match wrong {
            Wrong::Malformed(text) => {
                let text = format!("the API server's answer cannot be read: {text}");
                self.pause(Next::List, Level::Warn, text);
            }
            Wrong::TooMany(text) => self.pause(Next::List, Level::Error, text),
        }
    }
}
