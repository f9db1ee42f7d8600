#include "sharding/host/processors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <map>
#include <thread>
#include <vector>

#include "sharding/host/binding.h"
#include "tests/sharding/host/another_host.h"

namespace autoglm {
namespace {

using testing::HasSubstr;

std::vector<ProcessorSet> sets(const std::vector<std::string>& lists) {
  std::vector<ProcessorSet> processors;
  for (const std::string& list : lists) processors.push_back(parse_processors(list));
  return processors;
}

TEST(Processors, AreReadAndWrittenAsTheKernelDoes) {
  for (const char* list : {"0", "0-3", "1,3,5", "0-1,8,10-127", "8191", ""})
    EXPECT_EQ(format_processors(parse_processors(list)), list);
  EXPECT_EQ(parse_processors("0-3,8\n").count(), 5u);
  EXPECT_EQ(parse_processors("nonsense, 2").count(), 1u);
}

TEST(Processors, OfThisThreadFollowItsMask) {
  std::thread([] {
    const ProcessorSet before = allowed_processors();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(before._Find_first(), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    EXPECT_EQ(allowed_processors().count(), 1u);
    EXPECT_EQ(threads_of_this_process(), 1);
  }).join();
}

TEST(Threads, AreDividedWhereProcessesShareProcessors) {
  EXPECT_EQ(threads_of_process(sets({"0-15"}), 0, {}), 16);
  EXPECT_EQ(threads_of_process(sets({"0-15", "0-15", "0-15"}), 1, {}), 5);
  EXPECT_EQ(threads_of_process(sets({"0-15", "0-15", "0-15", "0-15"}), 3, {}), 4);
  EXPECT_EQ(threads_of_process(sets({"0", "0", "0"}), 2, {}), 1);
}

TEST(Threads, AreNotDividedWhereProcessesAreBoundApart) {
  EXPECT_EQ(threads_of_process(sets({"0-7", "8-15"}), 1, {}), 8);
  EXPECT_EQ(threads_of_process(sets({"0", "1"}), 0, {}), 1);
  // Two of four ranks on each socket.
  EXPECT_EQ(threads_of_process(sets({"0-7", "8-15", "0-7", "8-15"}), 2, {}), 4);
  EXPECT_EQ(threads_of_process(sets({"0-7", "0-3"}), 0, {}), 6);
}

TEST(Threads, AreWithinTheQuotaThatProcessesShare) {
  EXPECT_EQ(threads_of_process(sets({"0-15"}), 0, 4.0), 4);
  EXPECT_EQ(threads_of_process(sets({"0-15", "0-15"}), 0, 4.0), 2);
  EXPECT_EQ(threads_of_process(sets({"0-15"}), 0, 2.5), 2);
  EXPECT_EQ(threads_of_process(sets({"0-15"}), 0, 0.2), 1);
  EXPECT_EQ(threads_of_process(sets({"0-1"}), 0, 64.0), 2);
}

class Quota : public AnotherHost {};

TEST_F(Quota, OfVersion1IsTheOwnGroupsOrAParents) {
  mount_version_1();
  write("proc/self/cgroup", "4:memory:/other\n1:cpu,cpuacct:/jobs/7\n");
  EXPECT_FALSE(processor_quota(root()));
  write("sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_period_us", "100000\n");
  EXPECT_FALSE(processor_quota(root()));
  write("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "350000\n");
  write("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(processor_quota(root()), 3.5);
  write("sys/fs/cgroup/cpu,cpuacct/jobs/7/cpu.cfs_quota_us", "50000\n");
  EXPECT_EQ(processor_quota(root()), 0.5);
}

TEST_F(Quota, OfVersion2IsTheLeastOnTheWayUp) {
  mount_version_2();
  write("proc/self/cgroup", "0::/pod/main\n");
  write("sys/fs/cgroup/pod/main/cpu.max", "max 100000\n");
  EXPECT_FALSE(processor_quota(root()));
  write("sys/fs/cgroup/pod/cpu.max", "150000 50000\n");
  EXPECT_EQ(processor_quota(root()), 3.0);
}

// A rank of Open MPI: this process 30, child of a script, child of mpirun.
class OneCore : public AnotherHost {
 protected:
  OneCore() {
    write("proc/self/status", "Name:\tautoglm-train\nPPid:\t20\nCpus_allowed_list:\t2\n");
    write("proc/20/status", "Name:\tbash\nPPid:\t10\nCpus_allowed_list:\t2\n");
    write_launcher("mpirun", "0-7");
    write("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2,6\n");
  }
  void write_launcher(const std::string& name, const std::string& processors) const {
    write("proc/10/status", "Name:\t" + name + "\nPPid:\t1\nCpus_allowed_list:\t" + processors + "\n");
    write("proc/1/status", "Name:\tinit\nPPid:\t0\nCpus_allowed_list:\t0-7\n");
  }
  std::optional<Binding> found(const std::string& mine,
                               std::map<std::string, std::string> environment = {}) const {
    environment.emplace("OMPI_COMM_WORLD_SIZE", "2");
    return one_core_binding(
        parse_processors(mine),
        [&](const char* name) { return environment.count(name) == 0 ? nullptr : environment[name].c_str(); },
        root());
  }
};

TEST_F(OneCore, IsOpenMpisOwnChoice) {
  for (const char* launcher : {"mpirun", "orted", "prterun", "mpiexec"}) {
    write_launcher(launcher, "0-7");
    const std::optional<Binding> binding = found("2");
    ASSERT_TRUE(binding);
    EXPECT_FALSE(binding->asked);
    EXPECT_EQ(format_processors(binding->allowed), "0-7");
  }
  EXPECT_TRUE(found("2,6"));  // both threads of the core
}

TEST_F(OneCore, IsNoneWhereMpirunMayUseNoMore) {
  write_launcher("mpirun", "2");  // taskset -c 2 mpirun
  EXPECT_FALSE(found("2"));
}

TEST_F(OneCore, IsNoneOfMoreCores) {
  EXPECT_FALSE(found("2-3"));
  EXPECT_FALSE(found("0-7"));
}

TEST_F(OneCore, IsNoneWithoutMpirun) {
  write_launcher("slurmstepd", "0-7");
  EXPECT_FALSE(found("2"));
  EXPECT_FALSE(one_core_binding(
      parse_processors("2"), [](const char*) { return nullptr; }, root()));
}

TEST_F(OneCore, IsKeptWhereItWasAskedFor) {
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"OMPI_MCA_hwloc_base_binding_policy", "core"},
                                          {"OMPI_MCA_rmaps_base_mapping_policy", "slot:pe=1"},
                                          {"OMPI_MCA_orte_rankfile", "ranks.txt"},
                                          {"OMPI_MCA_hwloc_base_cpu_set", "2"}}) {
    const std::optional<Binding> binding = found("2", {{name, value}});
    ASSERT_TRUE(binding) << name;
    EXPECT_TRUE(binding->asked) << name;
  }
  EXPECT_FALSE(found("2", {{"OMPI_MCA_rmaps_base_mapping_policy", "node"}})->asked);
}

TEST_F(OneCore, OfSlurmIsSaid) {
  write("sys/devices/system/cpu/online", "0-7\n");
  std::map<std::string, std::string> environment{{"SLURM_STEP_ID", "0"}};
  const auto said = [&](const std::string& mine) {
    return one_core_of_slurm(
        parse_processors(mine),
        [&](const char* name) { return environment.count(name) == 0 ? nullptr : environment[name].c_str(); },
        root());
  };
  EXPECT_THAT(said("2,6").value_or(""), HasSubstr("--cpus-per-task"));
  EXPECT_FALSE(said("2-4"));
  environment["OMP_NUM_THREADS"] = "1";
  EXPECT_FALSE(said("2"));
  environment = {{"SLURM_JOB_ID", "7"}};
  EXPECT_FALSE(said("2"));
}

// Two sockets of eight processors, each of two nodes; a card on the bus of processors 12-15.
class NearTheCard : public OneCore {
 protected:
  NearTheCard() {
    write_launcher("mpirun", "0-15");
    write("sys/devices/system/cpu/online", "0-15\n");
    write("sys/devices/system/cpu/cpu12/topology/core_siblings_list", "8-15\n");
    write("sys/bus/pci/devices/0000:3b:00.0/local_cpulist", "12-15\n");
  }
  NearCard found(const std::string& mine, int local_size,
                 std::map<std::string, std::string> environment = {}) const {
    return near_card(
        parse_processors(mine), "0000:3B:00.0", local_size,
        [&](const char* name) { return environment.count(name) == 0 ? nullptr : environment[name].c_str(); },
        root());
  }
  std::string place(const NearCard& found) const {
    return found.run_on ? format_processors(*found.run_on) : "";
  }
};

const std::map<std::string, std::string> by_mpirun{{"OMPI_COMM_WORLD_SIZE", "4"}};
const std::map<std::string, std::string> as_asked{{"OMPI_COMM_WORLD_SIZE", "4"},
                                                  {"OMPI_MCA_hwloc_base_binding_policy", "socket"}};

TEST_F(NearTheCard, RanksBesideOthersRunOnItsSocket) {
  EXPECT_EQ(place(found("0-15", 4, by_mpirun)), "8-15");
  EXPECT_EQ(place(found("0-15", 4, as_asked)), "8-15");  // as under --bind-to none
  EXPECT_EQ(place(found("8-11", 4, by_mpirun)), "");
  EXPECT_EQ(place(found("4-9", 2)), "8-9");
}

TEST_F(NearTheCard, OneRankKeepsAllSockets) {
  const NearCard alone = found("0-15", 1);
  EXPECT_EQ(place(alone), "");
  EXPECT_EQ(alone.sentence, "");
}

TEST_F(NearTheCard, OnAnotherSocketIsLeftOrNamed) {
  EXPECT_EQ(place(found("0-7", 4, by_mpirun)), "8-15");
  const NearCard asked = found("0-7", 4, as_asked);
  EXPECT_EQ(place(asked), "");
  EXPECT_THAT(asked.sentence,
              HasSubstr("bound to processors 0-7, but its card belongs to the socket of 8-15"));
  EXPECT_THAT(asked.sentence, HasSubstr("mpirun --bind-to none"));
  write_launcher("mpirun", "0-7");
  EXPECT_EQ(place(found("0-7", 4, by_mpirun)), "");
  EXPECT_THAT(found("0-7", 1).sentence, HasSubstr("taskset"));
}

TEST_F(NearTheCard, IsAnywhereWhereTheKernelDoesNotSay) {
  write("sys/bus/pci/devices/0000:3b:00.0/local_cpulist", "\n");
  EXPECT_EQ(place(found("0-15", 4, by_mpirun)), "");
  EXPECT_EQ(found("0-7", 4, as_asked).sentence, "");
}

TEST_F(NearTheCard, OneCoreForAllThreadsIsSaid) {
  write("sys/devices/system/cpu/cpu12/topology/thread_siblings_list", "12-13\n");
  EXPECT_THAT(found("12-13", 1).sentence, HasSubstr("one core (processor 12-13) of its host's"));
  EXPECT_EQ(found("12-14", 1).sentence, "");
  EXPECT_EQ(found("12", 1, {{"OMP_NUM_THREADS", "1"}}).sentence, "");
  EXPECT_EQ(found("12", 2, by_mpirun).sentence, "");
}

}  // namespace
}  // namespace autoglm
