#include "libtto/stats/counters.hh"

namespace tto::stats {
namespace {

struct Entry {
  const char* name;
  const char* text;
};

constexpr Entry kEntries[] = {
#define TTO_COUNTER(name, text) {#name, text},
#include "libtto/stats/counters.def"
#undef TTO_COUNTER
#define TTO_DROP(name, text) {"drop_" #name, text},
#include "libtto/stats/drop_reason.def"
#undef TTO_DROP
#define TTO_FALLBACK(name, text) {"kernel_" #name, text},
#include "libtto/stats/fallback_reason.def"
#undef TTO_FALLBACK
};
static_assert(sizeof(kEntries) / sizeof(kEntries[0]) == kCounterCount);

constexpr Counter kOfReason[] = {
    Counter::kCount,  // kNone: nothing was dropped
#define TTO_DROP(name, text) Counter::drop_##name,
#include "libtto/stats/drop_reason.def"
#undef TTO_DROP
};
static_assert(sizeof(kOfReason) / sizeof(kOfReason[0]) == static_cast<size_t>(DropReason::kCount));

}  // namespace

const char* name(Counter counter) {
  return counter < Counter::kCount ? kEntries[static_cast<size_t>(counter)].name : "";
}
const char* text(Counter counter) {
  return counter < Counter::kCount ? kEntries[static_cast<size_t>(counter)].text : "";
}

Counter counter_of(DropReason reason) {
  return reason < DropReason::kCount ? kOfReason[static_cast<size_t>(reason)] : Counter::kCount;
}

}  // namespace tto::stats
