// Initial sequence numbers (RFC 6528): ISN = M + F(tuple, secret), M a clock of 4 µs, F a keyed hash (SipHash-2-4).
// The secret is passed in: tests and the product run the same code.
#pragma once

#include <cstdint>

#include "libtto/base/time.hh"
#include "libtto/wire/address.hh"

namespace tto::tcp {

using IsnSecret = uint32_t[4];

uint32_t initial_sequence_number(const wire::FourTuple& tuple, const IsnSecret& secret, Instant now);
/// An offset for the timestamp clock that differs from tuple to tuple (RFC 7323 §7.1).
uint32_t timestamp_offset(const wire::FourTuple& tuple, const IsnSecret& secret);

}  // namespace tto::tcp
