// Expects an Error: checks its exit code, that its message is a single line, and that it contains given words.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "runtime/error.h"

namespace carillon::testing {

template <class Body>
void expect_error(ExitCode code, const std::vector<std::string>& words, Body body) {
  try {
    body();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    for (const std::string& word : words) EXPECT_THAT(message, ::testing::HasSubstr(word));
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return;
  }
  ADD_FAILURE() << "no error; expected one with " << (words.empty() ? "any text" : words[0]);
}

}  // namespace carillon::testing
