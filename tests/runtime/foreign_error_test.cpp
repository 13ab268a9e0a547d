// Exceptions of libraries, and the messages that a user gets for them.
#include "runtime/foreign_error.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <new>
#include <system_error>
#include <vector>

namespace carillon::testing {
namespace {

template <class Body>
Error translated(Body body) {
  try {
    body();
  } catch (...) {
    return error_in_flight();
  }
  return Error(ExitCode::kDone, "nothing was thrown");
}

void expect(const Error& error, ExitCode code, const std::string& says) {
  EXPECT_EQ(error.code(), code) << error.what();
  EXPECT_NE(std::string(error.what()).find(says), std::string::npos) << error.what();
}

TEST(ForeignError, OursPassUnchanged) {
  expect(translated([] { fail(ExitCode::kNumeric, "as it was"); }), ExitCode::kNumeric, "as it was");
}

TEST(ForeignError, ANameTooLongForTheFileSystemIsMissingInput) {
  const std::string name(300, 'a');
  expect(translated([&] { (void)std::filesystem::exists(name); }), ExitCode::kMissingInput, name);
}

TEST(ForeignError, AFileInPlaceOfAFolderIsMissingInput) {
  expect(translated([] { (void)std::filesystem::file_size("/etc/passwd/x"); }), ExitCode::kMissingInput,
         "/etc/passwd/x");
}

TEST(ForeignError, MemoryAndImpossibleSizesAreWorthARetryElsewhere) {
  expect(translated([] { throw std::bad_alloc(); }), ExitCode::kInputOutput, "out of memory");
  expect(translated([] { std::vector<int>().reserve(SIZE_MAX); }), ExitCode::kInputOutput, "out of memory");
}

TEST(ForeignError, ANumberInTextBeyondItsTypeIsBadInputAtItsPlace) {
  const Error error = translated([] {
    const std::string file = "deep/table.csv";
    const WorkingOn here(file);
    (void)std::stoll("99999999999999999999");
  });
  expect(error, ExitCode::kBadInput, "deep/table.csv");
}

TEST(ForeignError, TheInnermostPlaceIsNamedAndOnlyForItsOwnException) {
  const std::string outer = "outer.json", inner = "inner\n.json";
  expect(translated([&] {
           const WorkingOn there(outer);
           const WorkingOn here(inner);
           (void)std::stoi("none");
         }),
         ExitCode::kBadInput, "inner\\n.json");
  const Error later = translated([] { (void)std::stoi("none"); });
  EXPECT_EQ(std::string(later.what()).find("inner"), std::string::npos) << later.what();
}

TEST(ForeignError, AStreamThatFailsIsInputOutput) {
  expect(translated([] {
           std::ifstream file;
           file.exceptions(std::ios::failbit);
           file.open("/nowhere/at/all");
         }),
         ExitCode::kInputOutput, "the system refuses");
}

TEST(ForeignError, WhatNobodyKnowsIsOurs) {
  expect(translated([] { (void)std::vector<int>(1).at(2); }), ExitCode::kInternal, "please report");
  expect(translated([] { throw 7; }), ExitCode::kInternal, "please report");
}

TEST(Fail, ForeignTextForgesNoLine) {
  const Error error = translated(
      [] { fail(ExitCode::kUsage, "no such file, {}, {}\ndetails of {}", std::string("a\nb\x1b[31m"), "c\r", 7); });
  EXPECT_STREQ(error.what(), "no such file, a\\nb\\x1b[31m, c\\r\ndetails of 7");
}

}  // namespace
}  // namespace carillon::testing
