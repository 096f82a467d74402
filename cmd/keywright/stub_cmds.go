package main

import "github.com/spf13/cobra"

func initCommand() *cobra.Command    { return &cobra.Command{Use: "init"} }
func sealCommand() *cobra.Command    { return &cobra.Command{Use: "seal"} }
func backupCommand() *cobra.Command  { return &cobra.Command{Use: "backup"} }
func restoreCommand() *cobra.Command { return &cobra.Command{Use: "restore"} }
