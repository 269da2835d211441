package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// ofOneNode annotates a flag of serve that cannot be the same for several nodes
// on one machine.
const ofOneNode = "of-one-node"

// markOfOneNode marks flags so.
func markOfOneNode(flags *pflag.FlagSet, names ...string) {
	for _, name := range names {
		if err := flags.SetAnnotation(name, ofOneNode, nil); err != nil {
			panic(err) // there is no such flag
		}
	}
}

// environmentKey annotates a flag with the variable that sets it.
const environmentKey = "environment"

// bind names the variable that sets a flag, and says so in its description.
func bind(flags *pflag.FlagSet, name, variable string) {
	f := flags.Lookup(name)
	if err := flags.SetAnnotation(name, environmentKey, []string{variable}); err != nil {
		panic(err) // there is no such flag
	}
	f.Usage += " [" + variable + "]"
}

// bindAll binds each flag that has no variable yet to LOCKSTEP_ and its name.
func bindAll(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Annotations[environmentKey] == nil {
			bind(flags, f.Name, "LOCKSTEP_"+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")))
		}
	})
}

// fromEnvironment sets the flags that the command line leaves out.
func fromEnvironment(cmd *cobra.Command, _ []string) error {
	var first error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		variable := f.Annotations[environmentKey]
		if f.Changed || variable == nil || first != nil {
			return
		}
		value, ok := os.LookupEnv(variable[0])
		if !ok || value == "" {
			return
		}
		if err := f.Value.Set(value); err != nil {
			first = fmt.Errorf("%s=%s: %w", variable[0], value, err)
		}
	})
	return first
}
