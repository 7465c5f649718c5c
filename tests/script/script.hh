// A script file as statements. Grammar in docs/testing.md, "Scripts".
#pragma once

#include <string>
#include <vector>

#include "libtto/base/time.hh"
#include "tests/script/segment_text.hh"

namespace tto::script {

struct Statement {
  int line = 0;
  std::string text;  // as written, for messages
  Duration after{};  // since the statement before
  Duration tolerance = milliseconds(1);
  std::vector<std::string> words;  // <options> are one word
};

/// `text`: the whole file. `open …` is written out as the handshake that it stands for.
std::vector<Statement> parse_script(const std::string& text);

/// "40ms", "1.5s", "250us".
Duration duration_of(const std::string& text);

}  // namespace tto::script
